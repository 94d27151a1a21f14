"""Pages of staff about contributors."""
