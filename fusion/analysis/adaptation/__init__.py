"""A model at a new site, of whose cells a few are labelled."""
