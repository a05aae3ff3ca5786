"""What takes longer: a cluster, a pooler, a replica, the bench."""
