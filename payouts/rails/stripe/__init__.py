"""The only door to Stripe: no other module imports its SDK. Our dataclasses out, our errors out."""
