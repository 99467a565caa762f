"""Which entries a comparison has: what cannot be asked is refused, or left out with its reason."""

import pytest

from fusion.errors import UsageError
from fusion.learning.refusals import possible_recipes
from fusion.settings.commands import AblateConfig
from fusion.workflows.ablation_plan import recipes_of
from fusion.workflows.loading import Inputs

NETWORK = {
    "network": {"backbone": "test_efficientnet", "weights": "random", "size": 32, "head": [], "head_dropout": [0.0]}
}


def entries(tmp_path, **settings):
    """Classifier and features of every entry that is fitted, and the notes on the others."""
    config = AblateConfig(data="cells", output=tmp_path / "out", classifiers={"neural": NETWORK}, **settings)
    inputs = Inputs.of(config)
    recipes, notes = possible_recipes(recipes_of(config, inputs.names, inputs.learnt))
    return [(recipe.classifier, recipe.features) for recipe in recipes], notes


def test_a_classifier_of_images_sees_them_alone_and_beside_every_set(tmp_path):
    found, notes = entries(tmp_path, features=["morphology", "colour"], compare=["logreg", "neural"])
    assert not notes
    assert [features for name, features in found if name == "neural"] == [
        ("image",),
        ("image", "morphology"),
        ("image", "colour"),
        ("image", "morphology", "colour"),
    ]
    assert [features for name, features in found if name == "logreg"] == [
        ("morphology",),
        ("colour",),
        ("morphology", "colour"),
    ]


def test_an_svm_is_compared_on_the_sets_whose_cells_no_network_has_met(tmp_path):
    found, (note,) = entries(
        tmp_path, features=["morphology", "colour", "cnn"], compare=["svm", "logreg"], cnn_crossfit=True
    )
    assert all("cnn" not in features for name, features in found if name == "svm")
    assert sum("cnn" in features for name, features in found if name == "logreg") == 4
    assert note.startswith("svm is not compared on cnn, morphology+cnn, colour+cnn and 1 more: ")
    assert "nested" in note


def test_nested_networks_pay_for_the_svm(tmp_path):
    found, notes = entries(tmp_path, features=["morphology", "cnn"], compare=["svm"], cnn_crossfit=True, nested=True)
    assert not notes
    assert ("svm", ("morphology", "cnn")) in found


def test_a_classifier_that_can_learn_from_no_set_is_refused(tmp_path):
    with pytest.raises(UsageError, match="harmonise is for features"):
        entries(tmp_path, features=["morphology"], compare=["logreg", "neural"], harmonise={"method": "standard"})
