"""Commands that only look something up: settings, recipes, plug-ins, the store."""
