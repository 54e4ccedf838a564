"""Success classifiers: learnt from labelled episodes, calibrated, exported, and used as a reward."""
