"""A second service: it has no users and believes the tokens of the first."""
