"""The classes of three published label sets, and the cluster of each class.

The six clusters and their order are from the authors' poster, whose label maps use the first six colours of the ADE20K
palette. The assignment of classes to clusters is a reconstruction: fixed structures are "building", vehicles and people
are "dynamic", and indoor classes are "other".
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CLUSTERS", "LABEL_SETS", "Colour", "LabelSet"]

Colour = tuple[int, int, int]

# Source: StructVPR (CVPR 2023), the label maps with C = 6 on the authors' poster.
CLUSTERS = ("building", "dynamic", "sky", "ground", "vegetation", "other")


@dataclass(frozen=True)
class LabelSet:
    """A label set.

    Attributes:
        name: used in configurations and `labels.json`.
        classes: names of the classes, in the order of their ids.
        clusters: index in `CLUSTERS` of each class.
        void: id of unlabelled pixels.
        palette: colour of each class, RGB, 0 to 255; void is black.
        first_id: id of the first class.
    """

    name: str
    classes: tuple[str, ...]
    clusters: tuple[int, ...]
    void: int
    palette: tuple[Colour, ...]
    first_id: int = 0

    @property
    def ids(self) -> range:
        """The ids of the classes, without void."""
        return range(self.first_id, self.first_id + len(self.classes))

    @property
    def expected(self) -> str:
        """The valid ids, for error messages."""
        return f"{self.ids[0]} to {self.ids[-1]} or {self.void} (void) as in {self.name}"


def label_set(name: str, entries: str, colours: str, *, void: int, first_id: int = 0) -> LabelSet:
    """Parse a table "class cluster, class cluster, ..." and one hex colour per class."""
    pairs = [entry.strip().rsplit(" ", 1) for entry in entries.split(",")]
    palette = [tuple(bytes.fromhex(colour)) for colour in colours.split()]
    return LabelSet(
        name=name,
        classes=tuple(" ".join(words.split()) for words, _ in pairs),
        clusters=tuple(int(cluster) for _, cluster in pairs),
        void=void,
        palette=tuple((r, g, b) for r, g, b in palette),
        first_id=first_id,
    )


# Terrain is grass, soil and sand; Cityscapes groups it with vegetation, as "nature".
# Source: Cordts et al., CVPR 2016; cityscapesScripts, helpers/labels.py (train ids and colours).
CITYSCAPES = """
    road 3, sidewalk 3, building 0, wall 0, fence 0, pole 0, traffic light 0, traffic sign 0, vegetation 4, terrain 4,
    sky 2, person 1, rider 1, car 1, truck 1, bus 1, train 1, motorcycle 1, bicycle 1
"""
CITYSCAPES_COLOURS = """
    804080 f423e8 464646 66669c be9999 999999 faaa1e dcdc00 6b8e23 98fb98
    4682b4 dc143c ff0000 00008e 000046 003c64 005064 0000e6 770b20
"""

# Source: Brostow et al. 2009, with the eleven classes and colours of SegNet (Badrinarayanan et al., TPAMI 2017).
CAMVID = """
    sky 2, building 0, pole 0, road 3, pavement 3, tree 4, sign 0, fence 0, car 1, pedestrian 1, bicyclist 1
"""
CAMVID_COLOURS = "808080 800000 c0c080 804080 3c28de 808000 c08080 404080 400080 404000 0080c0"

# First name of each line of objectInfo150.txt, and colours of color150.mat, in index order. Water and mountains are
# "other": neither buildings nor ground for a camera.
# Source: Zhou et al., Scene Parsing through ADE20K (CVPR 2017); github.com/CSAILVision/sceneparsing.
ADE20K = """
    wall 0, building 0, sky 2, floor 3, tree 4, ceiling 5, road 3, bed 5, windowpane 0, grass 4, cabinet 5,
    sidewalk 3, person 1, earth 3, door 0, table 5, mountain 5, plant 4, curtain 5, chair 5, car 1, water 5,
    painting 5, sofa 5, shelf 5, house 0, sea 5, mirror 5, rug 5, field 4, armchair 5, seat 5, fence 0, desk 5,
    rock 5, wardrobe 5, lamp 5, bathtub 5, railing 0, cushion 5, base 5, box 5, column 0, signboard 0,
    chest of drawers 5, counter 5, sand 3, sink 5, skyscraper 0, fireplace 5, refrigerator 5, grandstand 0, path 3,
    stairs 3, runway 3, case 5, pool table 5, pillow 5, screen door 0, stairway 3, river 5, bridge 0, bookcase 5,
    blind 5, coffee table 5, toilet 5, flower 4, book 5, hill 5, bench 0, countertop 5, stove 5, palm 4,
    kitchen island 5, computer 5, swivel chair 5, boat 1, bar 5, arcade machine 5, hovel 0, bus 1, towel 5, light 5,
    truck 1, tower 0, chandelier 5, awning 0, streetlight 0, booth 0, television 5, airplane 1, dirt track 3,
    apparel 5, pole 0, land 3, bannister 0, escalator 3, ottoman 5, bottle 5, buffet 5, poster 5, stage 3, van 1,
    ship 1, fountain 0, conveyer belt 5, canopy 0, washer 5, plaything 5, swimming pool 5, stool 5, barrel 5,
    basket 5, waterfall 5, tent 5, bag 5, minibike 1, cradle 5, oven 5, ball 5, food 5, step 3, tank 0,
    trade name 0, microwave 5, pot 5, animal 1, bicycle 1, lake 5, dishwasher 5, screen 5, blanket 5, sculpture 0,
    hood 5, sconce 5, vase 5, traffic light 0, tray 5, ashcan 0, fan 5, pier 0, crt screen 5, plate 5, monitor 5,
    bulletin board 0, shower 5, radiator 5, glass 5, clock 5, flag 0
"""
ADE20K_COLOURS = """
    787878 b47878 06e6e6 503232 04c803 787850 8c8c8c cc05ff e6e6e6 04fa07 e005ff ebff07 96053d 787846 08ff33
    ff0652 8fff8c ccff04 ff3307 cc4603 0066c8 3de6fa ff0633 0b66ff ff0747 ff09e0 0907e6 dcdcdc ff095c 7009ff
    08ffd6 07ffe0 ffb806 0aff47 ff290a 07ffff e0ff08 6608ff ff3d06 ffc207 ff7a08 00ff14 ff0829 ff0599 0633ff
    eb0cff a09614 00a3ff 8c8c8c fa0a0f 14ff00 1fff00 ff1f00 ffe000 99ff00 0000ff ff4700 00ebff 00adff 1f00ff
    0bc8c8 ff5200 00fff5 003dff 00ff70 00ff85 ff0000 ffa300 ff6600 c2ff00 008fff 33ff00 0052ff 00ff29 00ffad
    0a00ff adff00 00ff99 ff5c00 ff00ff ff00f5 ff0066 ffad00 ff0014 ffb8b8 001fff 00ff3d 0047ff ff00cc 00ffc2
    00ff52 000aff 0070ff 3300ff 00c2ff 007aff 00ffa3 ff9900 00ff0a ff7000 8fff00 5200ff a3ff00 ffeb00 08b8aa
    8500ff 00ff5c b800ff ff001f 00b8ff 00d6ff ff0070 5cff00 00e0ff 70e0ff 46b8a0 a300ff 9900ff 47ff00 ff00a3
    ffcc00 ff008f 00ffeb 85ff00 ff00eb f500ff ff007a fff500 0abed4 d6ff00 00ccff 1400ff ffff00 0099ff 0029ff
    00ffcc 2900ff 29ff00 ad00ff 00f5ff 4700ff 7a00ff 00ffb8 005cff b8ff00 0085ff ffd600 19c2c2 66ff00 5c00ff
"""

LABEL_SETS: dict[str, LabelSet] = {
    known.name: known
    for known in (
        label_set("cityscapes19", CITYSCAPES, CITYSCAPES_COLOURS, void=255),
        label_set("camvid11", CAMVID, CAMVID_COLOURS, void=11),
        # Output of networks: table index minus 1.
        label_set("ade20k150", ADE20K, ADE20K_COLOURS, void=255),
        # The data set's own PNGs: table index; 0 is unlabelled.
        label_set("ade20k150_png", ADE20K, ADE20K_COLOURS, void=0, first_id=1),
    )
}
