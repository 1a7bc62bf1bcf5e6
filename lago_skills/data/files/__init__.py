"""Files of offline data, whatever package wrote them: each kind read into one form, `RawDataset`."""
