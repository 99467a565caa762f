"""Features of one's own as a block: computed elsewhere, joined to the cells by key."""
