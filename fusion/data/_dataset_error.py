"""What is raised where a data set cannot be read as it is."""

from fusion.errors import UsageError


class DatasetError(UsageError):
    """The data set is not one that Fusion can read."""
