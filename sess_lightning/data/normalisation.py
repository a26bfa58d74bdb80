"""Per-channel statistics that images are normalised with."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# Networks from Caffe see pixels of 0 to 255 less the mean colour; here for pixels of 0 to 1, in RGB.
CAFFE_MEAN = (123.68 / 255, 116.779 / 255, 103.939 / 255)
CAFFE_STD = (1 / 255, 1 / 255, 1 / 255)
