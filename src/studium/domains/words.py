"""A few hundred common English words by kind, from which questions outside every skill are made."""

_NOUNS = """
animal apple army artist author baby ball bank bath beach bear bee bell bicycle bird blood boat body bone
book bottle box boy bread bridge brother building bus butter camera candle captain car cat cave cell chair
cheese chicken child church circle city clock cloud coal coast coat coffee coin comet computer continent
cook corn country cow crown culture dance desert dinosaur doctor dog dollar door dragon dream dress drum
duck eagle earth earthquake egg electricity elephant empire engine eye face factory family farm farmer
father feather festival field fire fish flag flame flood floor flower fly forest fox frog fruit future
galaxy game garden gas ghost giant glass goat gold grammar grass guitar hair hammer hand heart hill history
honey horse hospital house ice insect internet iron island jacket job judge jungle key king kitchen kite
knife lake lamp language law leaf leather library lightning lion liver lock machine magnet map market metal
milk mirror molecule money monkey moon mosquito mother mountain mouse museum music nail nation needle
neighbour nest novel nurse oak ocean oil onion opera orange orchestra owl ox oxygen page paint palace
paper parliament peace pencil people pepper philosopher piano pig pilot pirate planet plant plastic poem
poet police potato prince printer prison quantum queen rabbit radio railway rain rainbow recipe religion
rice river road robot rocket roof root rope rose ruler salt sand satellite school scientist sea shadow
shark sheep ship shoe shop silver singer sister skin sky snake snow soap society soil soldier song soul
spider spoon squirrel star statue steam stone storm story street sugar summer sun sword table tail tax tea
teacher telephone temple theatre thunder tiger tomato tool tooth tower town toy train treasure tree truth
turtle umbrella uncle universe vaccine valley vegetable village violin virus volcano wall war water wave
weather whale wheat wheel wind window wine winter wolf wood wool world worm writer year zebra
"""
_VERBS = """
bake become begin bite blow borrow break breathe build burn buy carry catch change clean climb close collect
cook cross cut dance dig draw drink drive eat explain fall feed fight find fix float fly forget freeze grow
hear help hide hunt invent jump kick kill knit laugh learn leave lift live lose love make melt meet move
paint pass plant play pray pull push read remember repair rest ride rise run sail save sell send shine sing
sink sleep smell smile speak spin stand steal stop study swim talk taste teach think throw travel understand
visit wait wake walk wash watch win wonder work write
"""
_ADJECTIVES = """
ancient angry blue brave bright broken busy calm cheap clever cold cruel dangerous dark deep dirty dry early
empty famous fast free fresh funny gentle golden green happy hard heavy hidden high hot huge hungry kind
large lazy light lonely long loud lucky modern narrow new old open orange poisonous polite quick quiet rare
red rich round rude sad safe secret sharp shiny short shy silent simple slow small smooth soft sour strange
strong sweet tall thick thin tiny warm weak wet white wide wild wise yellow young
"""
_PLACES = """
Africa America Argentina Asia Australia Austria Belgium Berlin Brazil Canada Chile China Cuba Denmark Egypt
England Europe Finland France Germany Greece Hungary Iceland India Indonesia Iran Ireland Israel Italy Japan
Kenya London Madrid Mars Mexico Morocco Moscow Nepal Norway Paris Peru Poland Portugal Rome Russia Scotland
Spain Sweden Switzerland Thailand Tokyo Turkey Venice Vienna Wales
"""
_NAMES = """
Ada Albert Alexander Alice Anna Arthur Beethoven Bob Caesar Charles Churchill Cleopatra Darwin David Einstein
Elizabeth Emma Galileo Gandhi George Hamlet Henry Isaac James Jane Julia Lincoln Maria Mary Mozart Napoleon
Newton Peter Picasso Plato Shakespeare Sarah Thomas Victoria William
"""

NOUNS = tuple(_NOUNS.split())
VERBS = tuple(_VERBS.split())
ADJECTIVES = tuple(_ADJECTIVES.split())
PLACES = tuple(_PLACES.split())
NAMES = tuple(_NAMES.split())
