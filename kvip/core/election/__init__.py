"""Who may hold a VIP, and until when: the pure side of the election."""
