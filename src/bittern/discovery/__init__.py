"""Who else has it: trackers."""
