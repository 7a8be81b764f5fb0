"""One sentence for each metric and strategy, for readers of a report."""

METRICS = {
    "image_auroc": "How likely a defective image scores higher than a good one; 0.5 is chance, 1 is perfect.",
    "image_f1_max": "Balance of found defects and false alarms among images at the best possible limit, "
    "which is chosen on the test images.",
    "image_f1": "The same at the model's own limit, set on held-out good images only: what one gets in use.",
    "image_ap": "Area under the precision–recall curve of the image scores.",
    "pixel_auroc": "As image AUROC, over pixels; high even for coarse maps, since most pixels are good.",
    "pixel_f1_max": "Balance of found and falsely marked defect pixels at the best possible limit; "
    "the thesis's headline number.",
    "pixel_f1": "The same at the model's own limit.",
    "pixel_ap": "Area under the precision–recall curve over pixels (the thesis's “precision–recall”).",
    "pixel_aupro": "Mean share of each defect region that is found, over false-positive rates up to 0.3: "
    "small defects count as much as large ones.",
    "forgetting": "Mean over earlier products of their best value so far minus their value now; 0 is none.",
    "relative_forgetting": "Forgetting as a share of that best value; the thesis's “average forgetting”.",
    "backward_transfer": "Mean over earlier products of their value now minus their value when just learned; "
    "negative is forgetting.",
    "relative_gap": "How far a strategy's mean lies below that of a separate model per product, as a share of it (δ).",
    "task_accuracy": "Share of test images that the model took for the right product.",
    "oracle": "A metric with the true product given, so that the cost of wrong guesses shows.",
    "train_seconds": "Time to learn all products, one after another.",
    "inference_ms": "Time for one image, one at a time.",
    "architecture_mb": "Bytes of the networks, in MB of 10⁶.",
    "additional_mb": "Bytes of what is kept beyond the networks: statistics, memory banks, exemplar images.",
}

STRATEGIES = {
    "single": "A separate model for each product, told which product it sees; the reference.",
    "multitask": "One model of all products, learned again from all their images each time: a reference.",
    "naive": "Goes on learning with the newest product's images only.",
    "replay": "Keeps a fixed number of images of earlier products and learns them again with the new ones.",
    "accumulate": "Adds each product's statistics to what is there, exactly as if all images came at once.",
    "average": "A running average of the products' means and covariances (thesis: Algorithm 5.1, “CL”).",
    "pertask": "Keeps each product's statistics apart and infers the product of an image (thesis: “less CL”).",
    "ewc": "Holds back weights that mattered for earlier products.",
    "lwf": "Holds the model's answers on new images near those it gave before learning them.",
    "gem": "Bends each step so that remembered images of earlier products do not get worse.",
    "packnet": "Gives each product its own share of the weights and freezes it.",
    "generative": "Learns earlier products again from images that a generator imagines.",
}
