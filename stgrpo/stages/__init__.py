"""The stages: functions of a config and a work directory that share nothing but files in it."""
