"""How well labels and waveforms are predicted."""

from __future__ import annotations

import numpy as np


def confusion(truth: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Counts tn, fp, fn, tp, and accuracy (acc), precision (prec) and recall (rec); 0 where one is not defined.

    Parameters
    ----------
    truth, predicted : (n,) labels, 0 or 1
    """
    yes, said = np.asarray(truth) == 1, np.asarray(predicted) == 1
    tn, fp, fn, tp = (int(np.count_nonzero(both)) for both in (~yes & ~said, ~yes & said, yes & ~said, yes & said))
    return {
        "tn": tn, "fp": fp, "fn": fn, "tp": tp,
        "acc": (tp + tn) / max(len(yes), 1), "prec": tp / max(tp + fp, 1), "rec": tp / max(tp + fn, 1),
    }  # fmt: skip


def precision_recall(truth: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall at every threshold on the scores, from the highest score down; ties together.

    Parameters
    ----------
    truth : (n,) bool
    scores : (n,) higher: more likely true
    """
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(np.asarray(truth, bool)[order])
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True)) if len(order) else order
    return hits[last] / (last + 1), hits[last] / max(int(hits[-1]) if len(hits) else 0, 1)


def recall_at(precision: np.ndarray, recall: np.ndarray, wanted: float) -> float:
    """Highest recall at which the precision is at least `wanted`; 0 where it never is."""
    return float(recall[precision >= wanted].max(initial=0.0))
