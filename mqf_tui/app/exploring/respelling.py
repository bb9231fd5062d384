"""Words for the tokens of a run that kept none, from the tokenizer of its model where that is still here."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mqf_tui.fidelity.errors import FidelityError
from mqf_tui.fidelity.positions import Positions
from mqf_tui.library import places
from mqf_tui.reports.schema import Report


def respelled(report: Report, positions: Positions) -> Positions:
    """The positions with the texts of their tokens; as they are where the model is not found, is another one
    by now, or would run code of its own. It takes seconds: not for the app's own thread."""
    if positions.texts or report.text_kept is not False:
        return positions
    try:
        from mqf_tui.fidelity.model.facts import read_facts
        from mqf_tui.fidelity.model.loading import load_tokenizer
        from mqf_tui.fidelity.vocabulary import Vocabulary
        from mqf_tui.library.models import find_model

        kept = places.find("models", report.model_hash)
        folder = find_model(kept or report.model)
        facts = read_facts(folder)
        if not report.model_hash or facts.content_hash != report.model_hash:
            return positions
        ids = np.unique(np.concatenate([positions.token, positions.top1_ref, positions.top1_quant]))
        texts = Vocabulary(load_tokenizer(facts)).texts(ids)
    except FidelityError:
        return positions
    return replace(positions, texts={i: text for i, text in texts.items() if text})
