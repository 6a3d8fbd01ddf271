"""The steps of the tour, in the order of the guide."""

from dataclasses import dataclass

EXPERIMENT = "tour"
TRAIN = "python -m mnistlab.train source=mnist_5k"
DATA = "5,000 genuine digits of MNIST, which come with the installation"


@dataclass(frozen=True)
class Step:
    """One step: what it does, its command, and the figure that the command draws.

    part: of the guide; figure: the name of the file, without .png, '' for none; look: what to see in it.
    """

    part: str
    title: str
    text: str
    command: str
    figure: str = ""
    look: str = ""


STEPS = (
    Step(
        "Parts 2 and 3",
        "A first network",
        "Pixels are scaled to 0..1, labels become one-hot rows, and a network with one hidden layer of 128 units "
        "learns to tell ten digits apart. Some training images are kept aside to validate on; the test images are used "
        "once, at the end.",
        f"{TRAIN} optimizer=momentum fit.epochs=5 run.name=first",
        "learning_curves",
        "Both losses fall together: the network learns what also holds for images it has not seen.",
    ),
    Step(
        "Part 4.3",
        "Seven strategies to learn",
        "The same network, trained in seven ways. They differ in how many images make one step, and in what is done "
        "with the gradient. One command trains all of them and compares them.",
        f"{TRAIN} sweep=optimizers fit.epochs=5",
        "val_loss",
        "batch_gd makes one step per epoch and hardly moves; sgd makes 3,600. Steps count, not their precision.",
    ),
    Step(
        "Part 4",
        "Overfitting",
        "A large network and few images: it can learn them by heart.",
        f"{TRAIN} data.limit=1000 'model.units=[512,512]' optimizer.learning_rate=0.003 fit.epochs=30 "
        "run.name=overfitted",
        "learning_curves",
        "The training loss goes to zero while the validation loss rises: the two curves part.",
    ),
    Step(
        "Part 5",
        "Which errors, and why",
        "Not only how many digits are wrong, but which are taken for which. The command looks at the run named first.",
        "python -m mnistlab.explain run=first",
        "confusions",
        "The most frequent confusions, with the images: 9 and 4, 3 and 5 are alike for the network, too.",
    ),
    Step(
        "Part 6.1",
        "Callbacks",
        "The rate is reduced when the validation loss stops falling, and the training ends when that does not help.",
        f"{TRAIN} optimizer=rmsprop callbacks=default callbacks.early_stopping.patience=6 "
        "callbacks.reduce_lr.patience=2 fit.epochs=30 run.name=callbacks",
        "learning_curves",
        "The right plot is the rate. The dotted line is the best epoch: its weights are those that are saved.",
    ),
    Step(
        "Part 6.2",
        "Rare classes",
        "Two digits are made rare. With class weights each of their images counts more.",
        "python -m mnistlab.train --multirun source=mnist_5k data=imbalanced data.class_weight=null,balanced "
        "optimizer=momentum fit.epochs=5 sweep.seeds=3",
        "confusions",
        "Compare the rows of 3 and 8, which are rare in the training images and not in the test images.",
    ),
    Step(
        "Part 6.3",
        "Image folders",
        "Most people have folders of pictures, one for each class. The digits are written as such folders.",
        "python -m mnistlab.export source=mnist_5k to=digits",
    ),
    Step(
        "Part 6.3",
        "Augmentation",
        "Training on the folders, where each picture is turned, shifted and zoomed anew in every epoch.",
        "python -m mnistlab.train source=directory source.path=digits data=augmented optimizer=momentum fit.epochs=5 "
        "run.name=folders",
        "augmented_images",
        "One digit, fourteen times: the network never sees the same picture twice.",
    ),
    Step(
        "Part 7",
        "Save, load and go on",
        "The model of the run named first is loaded, and trained for two more epochs at a smaller rate.",
        f"{TRAIN} optimizer=momentum init.from=first optimizer.learning_rate=0.001 fit.epochs=2 run.name=continued",
        "learning_curves",
        "The first epoch starts where the other run has ended.",
    ),
    Step(
        "Part 7",
        "A better network",
        "Before the network meets the world: a convolutional one, trained on augmented images.",
        f"{TRAIN} model=cnn data=augmented optimizer.learning_rate=0.001 fit.epochs=10 run.name=convolutional",
        "wrong_images",
        "The errors of which it is surest. Some of them are hard for people, too.",
    ),
    Step(
        "Part 7",
        "Photographs",
        "Ten digits as a telephone would see them: dark ink on unevenly lit paper. The tour has made them from test "
        "images; write your own and photograph them.",
        "python -m mnistlab.predict run=convolutional 'images=photographs/*.png' prepare=mnist sheet=sheet.png",
        "sheet",
        "What the network gets of each picture: inverted, cropped and centred, as MNIST was made.",
    ),
    Step(
        "Part 8",
        "Better, or lucky?",
        "Two strategies, five seeds each. The verdict has an interval, or says that more seeds are needed.",
        "python -m mnistlab.train --multirun source=mnist_5k optimizer=momentum,adagrad fit.epochs=5 sweep.seeds=5",
        "final_values",
        "The dots are seeds. Where intervals are far apart, the difference is no luck.",
    ),
)
