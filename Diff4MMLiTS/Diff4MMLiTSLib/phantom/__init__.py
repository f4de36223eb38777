"""The digital multiphase liver phantom: anatomy, vessels, tumors, enhancement, motion, scanner."""
