"""What is done now and then to the data: trimming, replay, release from quarantine, rollups."""
