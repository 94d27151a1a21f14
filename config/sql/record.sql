-- Only the owner role records which scripts ran.
REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON config_appliedscript FROM tributary_app;
