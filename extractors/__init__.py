"""Things that measure a cell: handcrafted families and the network's embedding."""
