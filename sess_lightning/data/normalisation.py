"""Per-channel means and standard deviations for normalising images."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# Networks from Caffe expect pixels in [0, 255] minus the mean colour. Here: for RGB pixels in [0, 1].
CAFFE_MEAN = (123.68 / 255, 116.779 / 255, 103.939 / 255)
CAFFE_STD = (1 / 255, 1 / 255, 1 / 255)
