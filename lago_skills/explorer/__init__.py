"""The explorer: pages on which a library, its playbooks, episodes and studies are looked at, questioned and changed; served, or written to a folder."""
