"""One sentence for each metric, for readers of a report."""

METRICS = {
    "image_auroc": "How likely a defective image scores higher than a good one; 0.5 is chance, 1 is perfect.",
    "image_f1_max": "Balance of found defects and false alarms among images at the best possible limit, "
    "which is chosen on the test images.",
    "image_f1": "The same at the product's own limit, set on held-out good images only: what one gets in use.",
    "image_ap": "Area under the precision–recall curve of the image scores.",
    "pixel_auroc": "As image AUROC, over pixels; high even for coarse maps, since most pixels are good.",
    "pixel_f1_max": "Balance of found and falsely marked defect pixels at the best possible limit; "
    "the thesis's headline number.",
    "pixel_f1": "The same at the product's own limit.",
    "pixel_ap": "Area under the precision–recall curve over pixels (the thesis's “precision–recall”).",
    "pixel_aupro": "Mean share of each defect region that is found, over false-positive rates up to 0.3: "
    "small defects count as much as large ones.",
    "forgetting": "Mean over earlier products of their best value so far minus their value now; 0 is none.",
    "relative_forgetting": "Forgetting as a share of that best value; the thesis's “average forgetting”.",
    "backward_transfer": "Mean over earlier products of their value now minus their value when just learned; "
    "negative is forgetting.",
    "relative_gap": "How far a strategy's mean lies below that of a separate model per product, as a share of it (δ).",
    "task_accuracy": "Share of test images that the model took for the right product.",
    "open_set_auroc": "How likely an image of a product that was never learned seems stranger than one of a known "
    "product; 0.5 is chance.",
    "oracle": "A metric with the true product given, so that the cost of wrong guesses shows.",
    "train_seconds": "Time to learn all products, one after another.",
    "inference_ms": "Time for one image, one at a time.",
    "architecture_mb": "Bytes of the networks, in MB of 10⁶.",
    "additional_mb": "Bytes of what is kept beyond the networks: statistics, memory banks, exemplar images.",
}
