"""Documents in mail as streams of text and table rows, bounded in size, depth and time (DLP-8). Nothing here judges."""
