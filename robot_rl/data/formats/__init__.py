"""Episodes from and to the formats of other projects: LeRobotDataset v3, robomimic HDF5 and Minari HDF5.

The containers are read by libraries of the extra `data`, imported when a format is used.
"""
