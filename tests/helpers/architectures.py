"""Classifiers of timm and Hugging Face with random weights: names, and the sizes that keep them small."""

TIMM = """
resnet18 resnet10t resnetv2_50 legacy_seresnet18 skresnet18 res2net50_26w_4s resnest14d densenet121 vgg11 dla34 dpn48b
inception_v3 inception_v4 xception41 cspresnet50 darknet17 selecsls42b ese_vovnet19b_slim hrnet_w18_small nfnet_l0
tresnet_m gernet_s hgnetv2_b0 repvgg_a0 mobileone_s0 regnety_002 regnetx_002 rexnet_100 mobilenetv2_050
mobilenetv3_small_050 mobilenetv4_conv_small_035 mnasnet_small semnasnet_075 fbnetc_100 hardcorenas_a lcnet_035
tinynet_e efficientnet_lite0 efficientnet_b0 tf_efficientnetv2_b0 ghostnet_050 repghostnet_050 convnext_atto
convnextv2_atto inception_next_atto starnet_s1 mambaout_femto rdnet_tiny poolformer_s12 convformer_s18 caformer_s18
sebotnet33ts_256 halonet26t lambda_resnet26t vit_tiny_patch16_224 vit_wee_patch16_reg1_gap_256
vit_medium_patch16_gap_240 vit_small_r26_s32_224 vit_relpos_small_patch16_224 deit_tiny_distilled_patch16_224
deit3_small_patch16_224 flexivit_small eva02_tiny_patch14_224 tnt_s_patch16_224 cait_xxs24_224 xcit_nano_12_p16_224
convit_tiny crossvit_tiny_240 volo_d1_224 levit_128s levit_conv_128s coat_lite_tiny coat_tiny pit_ti_224
pit_ti_distilled_224 visformer_tiny swin_tiny_patch4_window7_224 swinv2_tiny_window8_256 swinv2_cr_tiny_224
focalnet_tiny_srf davit_tiny pvt_v2_b0 twins_pcpvt_small twins_svt_small nest_tiny hiera_tiny_224 mvitv2_tiny
mvitv2_small_cls gcvit_xxtiny nextvit_small maxvit_tiny_tf_224 coatnet_nano_rw_224 edgenext_xx_small
efficientformer_l1 efficientformerv2_s0 efficientvit_b0 efficientvit_m0 fastvit_t8 repvit_m0_9 mobilevit_xxs
mobilevitv2_050 tiny_vit_5m_224 shvit_s1 swiftformer_xs mixer_s32_224 gmixer_12_224 gmlp_ti16_224 resmlp_12_224
sequencer2d_s
""".split()  # noqa: SIM905
_SHALLOW = {"depth": 3, "embed_dim": 64, "num_heads": 2}
TIMM_OPTIONS = {  # large as published
    "vit_base_patch32_siglip_256": _SHALLOW,
    "aimv2_large_patch14_224": _SHALLOW,
    "beit_base_patch16_224": _SHALLOW,
    "vit_small_patch14_reg4_dinov2": {**_SHALLOW, "img_size": 224},
    "naflexvit_base_patch16_gap": _SHALLOW,
}

_PLAIN = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64}
_VIT = {"image_size": 64, "patch_size": 8, **_PLAIN}
_DINO = {**_VIT, "image_size": 70, "patch_size": 14}
_WINDOWS = {"image_size": 64, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 2], "window_size": 4}
_STAGES = {"hidden_sizes": [16, 16, 32, 32], "depths": [1, 1, 1, 2]}
_ATTENDING = {**_STAGES, "num_attention_heads": [1, 1, 2, 2]}
_PERCEIVER = {
    "num_latents": 64, "d_latents": 32, "num_blocks": 1, "num_self_attends_per_block": 2,
    "num_self_attention_heads": 2, "num_cross_attention_heads": 1, "image_size": 64,
}  # fmt: skip
# Name of the model's class without "ForImageClassification", name of the config's without "Config", its settings.
HUGGING_FACE = {
    "ViT": ("ViT", _VIT),
    "DeiT": ("DeiT", _VIT),
    "Beit": ("Beit", _VIT),
    "Data2VecVision": ("Data2VecVision", _VIT),
    "Dinov2": ("Dinov2", _DINO),
    "Dinov2WithRegisters": ("Dinov2WithRegisters", {**_DINO, "num_register_tokens": 4}),
    "ViTMSN": ("ViTMSN", _VIT),
    "IJepa": ("IJepa", _VIT),
    "Siglip": ("Siglip", {"vision_config": _VIT}),
    "CLIP": ("CLIP", {"vision_config": {**_VIT, "projection_dim": 32}}),
    "Swin": ("Swin", _WINDOWS),
    "Swinv2": ("Swinv2", _WINDOWS),
    "FocalNet": ("FocalNet", {"image_size": 64, "embed_dim": 16, "depths": [1, 2], "focal_levels": [2, 2],
                              "focal_windows": [3, 3], "hidden_sizes": [16, 32]}),
    "Pvt": ("Pvt", {"image_size": 128, **_ATTENDING}),
    "PvtV2": ("PvtV2", {"image_size": 128, **_ATTENDING}),
    "Segformer": ("Segformer", {"image_size": 128, **_ATTENDING}),
    "PoolFormer": ("PoolFormer", {"image_size": 128, **_STAGES}),
    "Levit": ("Levit", {"image_size": 128, "hidden_sizes": [16, 32, 48], "num_attention_heads": [2, 2, 2],
                        "depths": [2, 2, 2], "key_dim": [8, 8, 8]}),
    "MobileViT": ("MobileViT", {"image_size": 128}),
    "MobileViTV2": ("MobileViTV2", {"image_size": 128}),
    "ConvNext": ("ConvNext", {"image_size": 128, **_STAGES}),
    "ConvNextV2": ("ConvNextV2", {"image_size": 128, **_STAGES}),
    "ResNet": ("ResNet", {"image_size": 128, "embedding_size": 8, "layer_type": "basic", **_STAGES}),
    "RegNet": ("RegNet", {"image_size": 128, "embedding_size": 8, "groups_width": 8, **_STAGES}),
    "MobileNetV2": ("MobileNetV2", {"image_size": 128, "depth_multiplier": 0.35}),
    "SwiftFormer": ("SwiftFormer", {"image_size": 128}),
    "Hiera": ("Hiera", {"image_size": [64, 64], "embed_dim": 16, "num_heads": [1, 2], "depths": [1, 2],
                        "query_stride": [2, 2], "masked_unit_size": [8, 8], "num_query_pool": 1}),
    "PerceiverLearned": ("Perceiver", _PERCEIVER),
}  # fmt: skip
