"""What holds this project together: everything runs on real sockets, real files and real processes."""
