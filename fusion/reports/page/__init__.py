"""The page of a result: its sections, the frame around them, and the cells that it shows."""
