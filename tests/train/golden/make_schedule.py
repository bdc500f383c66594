"""schedule.json: learning rates of torch's ReduceLROnPlateau on loss sequences, and the epochs at which Lightning's
EarlyStopping rule ends them. torch 2.6.0; the rule is lightning 2.5's EarlyStopping._evaluate_stopping_criteria
(monitor_op torch.gt(current - min_delta, best_score), wait_count >= patience) with Trainer(min_epochs).

    python make_schedule.py > schedule.json
"""
import json
import math
import random

import torch


def plateau(losses, lr, factor, patience):
    p = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([p], lr=lr)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="min", factor=factor, patience=patience)
    out = []
    for loss in losses:
        scheduler.step(loss)
        out.append(optimizer.param_groups[0]["lr"])
    return out


def early_stop(scores, patience, delta, min_epochs):
    best, wait, should_stop = -math.inf, 0, False
    for epoch, score in enumerate(scores):
        if score - delta > best:
            best, wait = score, 0
        else:
            wait += 1
            should_stop = should_stop or wait >= patience
        if should_stop and epoch + 1 >= min_epochs:
            return epoch
    return -1


def main():
    random.seed(7)
    cases = []
    for n, lr, factor, patience in [(40, 2e-3, 0.1, 5), (60, 1e-2, 0.5, 0), (80, 2e-5, 0.1, 2), (50, 1.0, 0.1, 3)]:
        losses, x = [], 1.0
        for i in range(n):
            x *= random.choice([1.0, 0.99995, 0.99985, 0.97, 1.02])
            losses.append(x)
        cases.append({"lr": lr, "factor": factor, "patience": patience, "losses": losses,
                      "lrs": plateau(losses, lr, factor, patience)})
    stops = []
    for n, patience, delta, min_epochs in [(120, 20, 1e-2, 10), (30, 3, 1e-4, 10), (40, 4, 0.01, 1),
                                              (12, 20, 1e-4, 10), (60, 3, 1e-4, 25), (90, 6, 2e-4, 5)]:
        scores, x = [], 0.2
        for i in range(n):
            x = min(x + random.choice([0, 0, 5e-5, -0.01, 0.004, 0.005, 1e-4, 2e-4]), 0.95)
            scores.append(x)
        stops.append({"patience": patience, "delta": delta, "min_epochs": min_epochs, "scores": scores,
                      "stop": early_stop(scores, patience, delta, min_epochs)})
    print(json.dumps({"plateau": cases, "early_stop": stops}))


if __name__ == "__main__":
    main()
