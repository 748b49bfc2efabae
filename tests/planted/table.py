"""Faults put in by hand: a file of geomadv, the files of tests of which one must fail, the changes.

A change is a text that stands once in the file, and what replaces it.
"""

TABLE: dict[str, tuple[str, dict[str, str]]] = {
    "linalg/vectors.py": (
        "linalg_svd linalg_eigen",
        {
            "torch.where(decisive < 0, -directions, directions)": "directions",
            "np.where(decisive_array < 0, -directions, directions)": "directions",
            "np.abs(directions).argmax(axis=0)": "directions.argmax(axis=0)",
        },
    ),
    "linalg/svd.py": (
        "linalg_svd",
        {
            "int((held < share).sum()) + 1": "int((held <= share).sum()) + 1",
            "held = held / held[-1]": "pass",
            "share > held[-1]": "share >= held[-1]",
            "torch.special.entr(share).sum().exp()": "torch.special.entr(share).sum()",
            'self._full_spectrum("participation_ratio") ** 4': (
                'self._full_spectrum("participation_ratio") ** 2'
            ),
            "(values**2).cumsum(0)": "values.cumsum(0)",
            "return min(self.rank, n, d)": "return min(self.rank, d)",
            "if not 1 <= rank <= min(n, d):": "if not 1 <= rank <= max(n, d):",
            'return "covariance" if d <= n else "gram"': 'return "covariance" if d > n else "gram"',
            "self.reader.skip_rows(matrix.diagonal())": "pass",
            "directions = orthonormalised(np.concatenate(image).astype(np.float64) @ rotation)": (
                "directions = np.concatenate(image).astype(np.float64) @ rotation"
            ),
            "float(min(quotient, np.sqrt(residual)) + rounding)": "float(rounding)",
            "skipped=self.reader.shape[0] - self.reader.count": "skipped=0",
            "np.sqrt(np.maximum(eigenvalues, 0.0))": "np.maximum(eigenvalues, 0.0)",
        },
    ),
    "linalg/eigen.py": (
        "linalg_eigen linalg_checkpoint",
        {
            "np.arange(size - 1, size - 1 - self.k, -1)": "np.arange(size - self.k, size)",
            "bottom = np.arange(self.k - 1, -1, -1)": "bottom = np.arange(self.k)",
            'return 2 * self.k if self.which == "both" else self.k': "return self.k",
            "matrix @ vectors[:, part] - vectors[:, part] * values[part]": (
                "0.0 * vectors[:, part] * values[part]"
            ),
            "(matrix + matrix.T) / 2": "(matrix + matrix) / 2",
            "scale = float(np.abs(values).max())": "scale = float(values.max())",
            "relative(float(np.linalg.norm(matrix)), 2 * total)": (
                "relative(float(np.linalg.norm(matrix)), total)"
            ),
            "ritz = self._search(bar)": "pass",
            "(ritz.residuals[positions] <= self.wanted.tolerance * ritz.scale).all()": (
                "(ritz.residuals[positions] <= 100 * self.wanted.tolerance * ritz.scale).all()"
            ),
            "np.maximum(self.wanted.tolerance * ritz.scale, inside)": (
                "np.maximum(100 * self.wanted.tolerance * ritz.scale, inside)"
            ),
            "return min(max_products, dimension)": "return dimension",
        },
    ),
    "linalg/pairs.py": (
        "linalg_pairs",
        {
            "converged=torch.from_numpy(residuals <= tolerance)": (
                "converged=torch.from_numpy(residuals <= 100 * tolerance)"
            ),
            "norms = np.linalg.norm(image - values * directions, axis=0)": (
                "norms = np.linalg.norm(image, axis=0)"
            ),
            "float(np.abs(values).max()),": "float(np.abs(values).min()),",
            "pairs.products + counted.products": "pairs.products",
        },
    ),
    "linalg/slq.py": (
        "linalg_slq",
        {
            "return nodes, vectors[0] ** 2": "return nodes, np.abs(vectors[0])",
            "for _ in range(2):": "for _ in range(0):",
            "curve[:] = shares @ kernel / (width * np.sqrt(2 * np.pi))": (
                "curve[:] = shares @ kernel / (width * np.sqrt(np.pi))"
            ),
            "values.std(ddof=1) / np.sqrt(probes)": "values.std(ddof=1)",
            "if not 0 <= power < 2 * steps:": "if not 0 <= power <= 2 * steps:",
        },
    ),
    "linalg/doubt.py": (
        "curvature_doubt",
        {
            "return self.no_eigenvector > 0.5": "return self.no_eigenvector > 0.0",
            "max(steps, default=math.nan)": "min(steps, default=math.nan)",
            "return coherence < _LEAST_COHERENCE": "return coherence > _LEAST_COHERENCE",
            "float(np.abs(quadratics).mean(axis=0).max())": (
                "float(np.abs(quadratics.mean(axis=0)).max())"
            ),
        },
    ),
    "boundary/segment.py": (
        "segment",
        {
            "crossed = (f_low <= 0) & (f_high >= 0)": "crossed = (f_low <= 0) & (f_high > 0)",
            "at_start = crossed & (f_low == 0)": "at_start = crossed & (f_low > 0)",
            "if evaluation % 3 == 2 else": "if evaluation % 3 == 5 else",
            "side[active] == now, 0.5, 1.0": "side[active] == now, 1.0, 1.0",
            "t = torch.where((t > a) & (t < b), t, middle)": "pass",
            "(f_best[active].abs() > tolerance[active])": (
                "(f_best[active].abs() > 100 * tolerance[active])"
            ),
        },
    ),
    "boundary/nearest.py": (
        "nearest boundary",
        {
            "better = crosses & (length < self.length)": "better = crosses",
            "self.length = torch.where(better, length, self.length)": "pass",
            "ahead = margin < 0": "ahead = margin <= 0",
            "best.offer(boxed.delta, boxed.length.isfinite())": "pass",
            "best.length.isinf() | (_FAR * shorter < length)": "best.length.isinf()",
            "blind = (slope == 0) & best.length.isinf()": "blind = slope < 0",
        },
    ),
    "boundary/points.py": (
        "boundary nearest",
        {
            "(polished.distance < refined.distance) | ~refined.converged": (
                "polished.distance < refined.distance"
            ),
            "polished.converged & nearer": "polished.converged",
            "converged &= f.abs() <= torch.maximum(self.tolerance, rounding)": "pass",
            "normals[~converged] = torch.nan": "pass",
            "(norm > 0) & norm.isfinite() & (source != far)": "norm.isfinite()",
        },
    ),
    "perturbations/balls.py": (
        "universal fgsm_saliency",
        {
            "return v if norm <= radius else v * (radius / norm)": "return v * (radius / norm)",
            "return v.clamp(-radius, radius)": "return v.clamp(max=radius)",
            "if p not in (2, math.inf):": "if p not in (1, 2, math.inf):",
            "if not 0 < radius < math.inf:": "if not 0 <= radius < math.inf:",
        },
    ),
    "perturbations/fgsm.py": (
        "fgsm_saliency",
        {
            "delta = epsilon * torch.cat(signs)": "delta = -epsilon * torch.cat(signs)",
            "delta = adversarial - x": "pass",
            "predicted if chosen is None else chosen[i : i + size]": "predicted",
            "labels_at(net, adversarial, size)": "labels_at(net, x, size)",
        },
    ),
    "perturbations/fooling.py": (
        "non_finite_scores universal",
        {
            "(labels != clean) & ~lost(labels)": "labels != clean",
            "torch.where(scores.isfinite().all(1), scores.argmax(1), NO_LABEL)": "scores.argmax(1)",
            "first = start + int(missing.nonzero()[0])": "first = int(missing.nonzero()[0])",
        },
    ),
    "perturbations/universal_pass.py": (
        "universal",
        {
            "rank.argsort(descending=True,": "rank.argsort(descending=False,",
            "rank = frequency * problem.net.num_classes + labels": "rank = frequency",
            "v = problem.project(v + steps[0])": "v = v + steps[0]",
            "if merits and max(merits) >= merit:": "if merits:",
            "max(merits) >= merit": "max(merits) > merit + 1e9",
            "[problem.project(v + sums[count - 1]) for count in counts]": (
                "[v + sums[count - 1] for count in counts]"
            ),
            "found.append(ahead[places[~lost(labels[places])]])": "found.append(ahead[places])",
        },
    ),
    "perturbations/rivals.py": (
        "rivals",
        {
            "self._predicted(index).argmin(1)": "self._predicted(index).argmax(1)",
            "<= _MARGIN * self.nearest[index, None]": "<= 0 * self.nearest[index, None]",
            "_MARGIN = 2.5": "_MARGIN = 1.0",
            "_SPREAD = 2.5": "_SPREAD = 1e9",
            "_CHANGE = 1.5": "_CHANGE = 1e9",
            "_LONG = 4": "_LONG = 10**6",
            "nearer = least < self.nearest[index]": "nearer = least <= self.nearest[index] + 1e9",
            "~(change <= _CHANGE)": "(change > _CHANGE)",
        },
    ),
    "perturbations/walk.py": (
        "deepfool deepfool_outcomes deepfool_every_rival",
        {
            "(1 + self.search.overshoot) * flat": "flat",
            "point.clamp(*self.net.bounds) if self.search.clip else point": "point",
            "self.iterations[index] += 1": "self.iterations[index] += 2",
            "cotangent[row, near] = -1": "cotangent[row, near] = 0",
            "there = self.label == self.boundary.target": "there = self.label != self.source",
            "w.sign(), unit_rows(w, order=1)[1]": "w.sign(), unit_rows(w)[1]",
            "others.topk(count, dim=1).indices": "others.topk(count, dim=1, largest=False).indices",
            "self.total[index[~finite]] = before[~finite]": "pass",
        },
    ),
    "claims/measures.py": (
        "claims_measures",
        {
            "(weights @ np.where(known, flat, 0)) / (weights @ known)": (
                "(weights @ np.where(known, flat, 0)) / weights.sum(1)[:, None]"
            ),
            "hit = curves >= levels[:, None]": "hit = curves > levels[:, None]",
            "if not np.quantile(np.nan_to_num(excess[1:], nan=-1.0), 0.025, method=": (
                "if not np.quantile(np.nan_to_num(excess[1:], nan=-1.0), 0.975, method="
            ),
            "mean(weights, by_image) + mean(draws, by_draw) - by_draw.mean(0)": (
                "mean(weights, by_image) + 0 * mean(draws, by_draw)"
            ),
        },
    ),
    "claims/directions.py": (
        "claims_closed_forms claims",
        {
            "rows = rows.min(2)": "rows = rows.max(2)",
            "np.max(others, axis=0)": "np.min(others, axis=0)",
            "isel(scale=[0, -1])": "isel(scale=[0, 0])",
            "moved = (ends == target) if enters else (ends != target)": "moved = ends == target",
            'isel(scale=(ds["scale"] != 0).to_numpy())': 'isel(scale=(ds["scale"] > 0).to_numpy())',
        },
    ),
    "claims/claim.py": (
        "claims",
        {
            "if ends[0] >= least:": "if ends[1] >= least:",
            "effect / null if claim.contrast": "null / effect if claim.contrast",
            '(low, high) if claim.relation == ">=" else (-high, -low)': "(low, high)",
            'low = -math.inf if found.bound == "at most" else low': "pass",
            "hits + 0.5, count - hits + 0.5": "hits + 0.5, count + 0.5",
            "return opposite or not sign * best": "return True or not sign * best",
            "max(sign * e for e in interval)": "min(sign * e for e in interval)",
        },
    ),
    "claims/subspaces.py": (
        "claims_closed_forms claims",
        {
            "_ENOUGH = 0.95": "_ENOUGH = 0.9",
            "last = min(size[-1] for size, _ in each)": "last = max(size[-1] for size, _ in each)",
            '(pair["converged"] == 1).all("family")': '(pair["converged"] == 1).any("family")',
            "self._number % draws": "self._number * 0",
        },
    ),
    "claims/universal.py": (
        "claims_closed_forms claims",
        {
            "squares = (weights**2).sum(1)": "squares = 0 * weights.sum(1)",
            "size[few].argmax()": "size[few].argmin()",
            "others = ~np.eye(rates.shape[1], dtype=bool)": (
                "others = np.ones((rates.shape[1],) * 2, dtype=bool)"
            ),
            '(ds["label"] != ds["prediction"]) & (ds["label"] >= 0)\n        images': (
                '(ds["label"] != ds["prediction"])\n        images'
            ),
        },
    ),
    "curvature/operators.py": (
        "curvature_operators curvature_doubt",
        {
            "scales = 1 / lengths": "scales = lengths",
            "norms.square()": "norms",
            "return (rows / safe[:, None])": "return rows",
            "self.step / distance": "self.step * distance",
            "matrix = (self.products_sum(identity) / self.points_used)": (
                "matrix = self.products_sum(identity)"
            ),
            'return self.kind != "finite-difference"': "return True",
        },
    ),
    "curvature/shared.py": (
        "distributed",
        {
            "total = self._answer(block)": "total = self._answer(block) / 2",
            "if error is not None:": "if False:",
        },
    ),
    "experiments/principal/uncertainty.py": (
        "experiments_uncertainty",
        {
            "order[n // 2 :].sort()": "order[n // 2 - 1 :].sort()",
            "means = counts @ values / n": "means = counts @ values / (n - 1)",
            "two.leading(d)": "one.leading(d)",
        },
    ),
    "experiments/subspaces/subspace_accuracy.py": (
        "experiments_subspaces",
        {
            "(x - centre).flatten(1) @ basis.T": "x.flatten(1) @ basis.T",
            "new = slice(before or 0, end)": "new = slice(0, end)",
            "np.sqrt(accuracy * (1 - accuracy) / counts[:, None, None])": (
                "np.sqrt(accuracy * (1 - accuracy))"
            ),
        },
    ),
    "results/agreement.py": (
        "results_agreement",
        {
            'if one.attrs.get("units") in _OF_ONE else 0.0': "if False else 0.0",
            "np.where(np.isnan(gap), np.inf, gap)": "np.nan_to_num(gap)",
            "worst = float(apart / largest)": "worst = float(apart)",
            "rows = slice(start, start + step)": "rows = slice(0, step)",
            "if one.dims != other.dims:": "if False:",
            "(np.isnan(a) & np.isnan(b))": "(np.isnan(a) | np.isnan(b))",
        },
    ),
    "results/handing.py": (
        "results_handing",
        {
            "numbers.max() < len(labels)": "numbers.max() <= len(labels)",
            "not -1 <= numbers.min()": "not -9 <= numbers.min()",
            "n if [*names].count(n) == 1 else numbered[k]": "numbered[k]",
            "if len({*labels}) < len(labels):": "if False:",
            'source["point"] - source["image"]': 'source["image"] - source["point"]',
            "source.transpose(..., *(dim for dim in IMAGE if dim in source.dims))": "source",
            "{*ds[name].dims} <= {*ds[first].dims}": "{*ds[name].dims} == {*ds[first].dims}",
        },
    ),
    "pipeline/comparing.py": (
        "pipeline_comparing",
        {
            "found[0] for value in found)": "found[0] for value in found[:2])",
            "if words in often and numbers else": "if numbers else",
            "len(numbers) == count and len({*column}) == 1": "len({*column}) == 1",
            "names += [i for i in before if i not in names]": "names += []",
            "if sum(ds is not None for ds in drawn.values()) > 1:": "if any(drawn.values()):",
        },
    ),
    "experiments/planes/offsets.py": (
        "experiments_planes_parts experiments_planes",
        {
            "offset -= offset[:, :, torch.as_tensor(scales == 0)].clone()": "pass",
            "-start.sign() * (t != 0)": "start.sign() * (t != 0)",
            "self.back = self.along * self.cosine[at]": "self.back = 0 * self.cosine[at]",
            "while len(active) > 0:": "if len(active) > 0:",
        },
    ),
    "experiments/planes/normal_section.py": (
        "experiments_planes_parts experiments_planes",
        {
            "kappa[1] /= found.sine**2": "kappa[1] /= found.sine",
            "return np.minimum(*(_first": "return np.maximum(*(_first",
            "fails = ~(excess <= 0)": "fails = excess > 0",
            "np.ceil(q * count).astype(int) - 1": "np.floor(q * count).astype(int) - 1",
            "- OFF * np.abs(offset) - resolution[:, None]": "- OFF * np.abs(offset)",
        },
    ),
    "experiments/planes/decision_plane.py": (
        "experiments_planes",
        {
            "max(reach * distance, _BEYOND": "max(reach * distance, 0 * _BEYOND",
            "torch.stack([at[index % side], at[index // side]], dim=1)": (
                "torch.stack([at[index // side], at[index % side]], dim=1)"
            ),
            "rest = vector - (vector @ first) * first\n"
            "    rest -= (rest @ first) * first": "rest = vector",
            ".roll(-i - 1).nonzero()": ".nonzero()",
        },
    ),
    "classifier/smoothness.py": (
        "smoothness piecewise_linear",
        {
            "return weights - weights.mean(1, keepdim=True)": "return weights",
            "found &= change > _CANCELLED * torch.finfo(change.dtype).eps * shared": "pass",
            "(product, (g.detach(), shared), bounds)": "(product, (g.detach(),), bounds)",
            "for _ in range(_TRIES):": "for _ in range(1):",
            "coarse = bool((scores(some + _UNSEEN * some.flip(3)) == first).all())": (
                "coarse = False"
            ),
            "_NOISE = 0.05": "_NOISE = 0.0",
        },
    ),
    "curvature/measured.py": (
        "smoothness_measured",
        {
            "both = self._gradient(self.x), self._gradient(self.x, self.weights.abs())": (
                "both = (0 * self.x,)"
            ),
            "(change <= rounding).all()": "(change <= rounding).any()",
            "and self.coarse < falls * self.fine": "and self.coarse < 0 * self.fine",
            "jump = float(self._jumps().max()) if not reasons else 0.0": "jump = 0.0",
            "return stays and self.local > max(_SHARE if alike else _WRONG, self.floors[1])": (
                "return False"
            ),
            "_SHARE if alike else _WRONG": "_WRONG",
        },
    ),
    "plotting/figure.py": (
        "plotting_print",
        {
            "drawing.set_figheight(height + room)": "pass",
            '"; ".join(filter(None, parts))': '"; ".join(parts)',
            "engine.set(rect=(0, share, 1, 1 - share))": "pass",
        },
    ),
    "labels.py": ("plotting_parts", {"if value >= 9.95 else": "if value >= 100 else"}),
    "plotting/parts.py": (
        "plotting_parts",
        {
            "names.index(own) if own in names else 0": "0",
            "inner = np.sqrt(values[:-1] * values[1:])": "inner = (values[:-1] + values[1:]) / 2",
            "quantile(q, dim).where(~none)": "quantile(q, dim)",
            "np.full(len(known), 100 / max(len(known), 1))": "np.full(len(known), 100.0)",
        },
    ),
    "results/identity.py": (
        "results results_store",
        {
            "if key != BEHAVIOUR": "if True",
            "<= 1e-4 * np.abs(old)": "<= 1e-1 * np.abs(old)",
            "elif before != after and not": "elif before is not after and not",
        },
    ),
    "results/parts.py": (
        "results_store results_damage",
        {
            "if digest != content[-_DIGEST_SIZE:].tobytes():": "if False:",
            "start = end": "pass",
        },
    ),
    "results/reuse.py": (
        "results_workarea results",
        {
            "if changed and refresh:": "if refresh:",
            "    tidy(path, identity)\n": "",
        },
    ),
    "results/workarea.py": (
        "results_workarea results_store",
        {
            "if changed or not found or (assembled and overwrite):": "if changed or not found:",
            "            _remove_temporary(self.folder)\n": "            pass\n",
            "if done or old:": "if old:",
        },
    ),
    "files/writing.py": (
        "files_writing results",
        {
            "os.fsync(file.fileno())\n            os.replace": "pass\n            os.replace",
            "            _flush_names(path.parent)\n": "",
            "                file.check()\n": "",
            "if free < needed_bytes:": "if free < 0:",
        },
    ),
    "files/seals.py": (
        "results_damage",
        {
            "return found.digest() == end[len(_MARK) :]": "return True",
            "file.write(_MARK + found.digest())": "pass",
        },
    ),
    "files/locking.py": (
        "files_locking",
        {
            "(self._folder / LOCK).unlink(missing_ok=True)": "pass",
            "self._held = False": "pass",
        },
    ),
}
