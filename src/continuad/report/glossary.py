"""One sentence for each metric, for readers of a report."""

METRICS = {
    "image_auroc": "How likely a defective image scores higher than a good one; 0.5 is chance, 1 is perfect.",
    "image_f1_max": "F1, the balance of found defects and false alarms, among images, at the threshold that is best on "
    "the test images: an upper bound.",
    "image_f1": "The same at the threshold that the model uses, which is set on good images only.",
    "image_fpr_promised": "Share of good images that may be called anomalous at the threshold in use: what was asked "
    "for, or what the number n of good images allows to promise, 1 in n + 1.",
    "image_fpr": "Share of good test images that are called anomalous at the threshold in use: false alarms realised.",
    "image_recall": "Share of defective test images that are called anomalous at the threshold in use.",
    "image_fpr_1pct": "False alarms realised at the threshold that promises 1 %, or with few good images the lowest "
    "rate that can be promised.",
    "image_recall_1pct": "Defective test images caught at that threshold.",
    "image_fpr_5pct": "False alarms realised at the threshold that promises 5 %.",
    "image_recall_5pct": "Defective test images caught at that threshold.",
    "good_fpr": "Of a product without defective test images: share of its good images, each predicted as if it had not "
    "been learned, above the threshold in use.",
    "good_level": "Of the same images, the median score: 0 is an ordinary good surface, 1 the threshold.",
    "unknown_rate": "Share of a learned product's test images that are taken for none of the learned products.",
    "image_ap": "Area under the precision–recall curve of the image scores.",
    "pixel_auroc": "As image AUROC, over pixels; high even for coarse maps, since most pixels are good.",
    "pixel_f1_max": "F1, the balance of found and falsely marked defect pixels, at the threshold that is best on the "
    "test images: an upper bound.",
    "pixel_f1": "The same at the threshold that the model uses.",
    "pixel_ap": "Area under the precision–recall curve over pixels.",
    "pixel_aupro": "Mean share of each defect region that is found, over false-positive rates up to 0.3: "
    "small defects count as much as large ones.",
    "forgetting": "Mean over earlier products of their best value so far minus their value now; 0 is none.",
    "relative_forgetting": "Forgetting as a share of that best value: the tables' “average forgetting”.",
    "backward_transfer": "Mean over earlier products of their value now minus their value when just learned; "
    "negative is forgetting.",
    "relative_gap": "How far a strategy's mean lies below that of a separate model per product, as a share of it (δ).",
    "task_accuracy": "Share of test images whose task was inferred right.",
    "open_set_auroc": "How likely an image of a product that was never learned (the open set) lies farther from its "
    "nearest task than an image of a learned product; 0.5 is chance.",
    "open_set_rejected": "Share of the open set's images that are called unknown.",
    "oracle": "A metric with the true task given, to the strategy and for the threshold. Plain names are without it: a "
    "strategy that infers no task then uses one threshold for all products.",
    "train_seconds": "Time to learn all products, one after another.",
    "inference_ms": "Time for one image, one at a time.",
    "architecture_mb": "Bytes of the networks, in MB of 10⁶.",
    "additional_mb": "Bytes of what is kept beyond the networks: statistics, memory banks, exemplars, task snapshots.",
    "learning_mb": "The most bytes that learning the newest task held: model, a copy to go back to, statistics, "
    "gradients, optimiser state; images and activations come on top.",
}
