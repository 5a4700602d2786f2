"""The operator's commands: Serf's verbs, with its flags, its words and its exit statuses."""
