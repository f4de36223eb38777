"""The digital multiphase liver phantom: anatomy, enhancement, motion, scanner."""
