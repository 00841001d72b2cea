-- Prices: what each model costs, versions and their time, components, add-ons, and what is refused.
\ir helpers.psql
SELECT plan(:PLAN);
SELECT 1;
