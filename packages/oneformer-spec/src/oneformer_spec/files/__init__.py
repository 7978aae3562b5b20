"""Read and write files and folders: atomically, encrypted, and images."""
