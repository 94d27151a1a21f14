-- The groups of the console. They carry no permissions: a page names the roles that may use it.
INSERT INTO auth_group (name)
VALUES ('finance_maker'), ('finance_checker'), ('compliance'), ('auditor'), ('admin'), ('model_team')
ON CONFLICT (name) DO NOTHING;
