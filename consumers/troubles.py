"""What is wrong with a server, for who goes on: what passes, and what does not before somebody mends something."""

from consumers.kafka import KafkaUnavailable
from features.connect import StoreRefused, StoreUnavailable
from producers.kafka import KafkaRefused
from producers.publisher import NotAcknowledged

PASSING = (StoreUnavailable, KafkaUnavailable, NotAcknowledged)
REFUSED = (StoreRefused, KafkaRefused)
"""By Redis, or by Kafka to who reads and to who writes; some of it is PASSING too, for who does not tell them apart."""
