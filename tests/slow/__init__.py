"""What takes longer: the proof, a cluster, a pooler, a replica, the lab, the bench."""
