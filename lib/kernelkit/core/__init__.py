"""The ground floor: what every package of lib/ may use. It imports none of them."""
