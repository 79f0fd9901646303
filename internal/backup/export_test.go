package backup

// UsePartSize makes parts of backups n bytes large.
func UsePartSize(n int) { partSize = n }
