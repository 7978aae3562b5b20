"""Images and annotations packed into tar files (WebDataset)."""
