"""Controls of a comparison, so that "deep helps" means more than that an untrained network, colour or size does."""
