"""Every silent mistake of training that can be seen before the first step, each as one check that names its row."""
