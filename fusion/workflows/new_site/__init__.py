"""What is done with a model at a site that it has not learnt from."""
