"""Write plain values for people: amounts, percentages, dates, charts, CSV and PDF. Imports no app of the product."""
