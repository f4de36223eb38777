"""What people look at: figures, HTML reports, CSV tables, exports."""
