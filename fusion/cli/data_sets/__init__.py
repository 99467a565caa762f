"""Commands that make a data set, or masks for one."""
