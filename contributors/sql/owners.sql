-- The accounts of the people behind an account, and the accounts that a member of staff has an interest in.

-- These accounts, and every account that links in force join to them, directly or through others.
CREATE OR REPLACE FUNCTION contributors_same_owner(accounts bigint[]) RETURNS SETOF bigint LANGUAGE sql STABLE
    SET search_path = pg_catalog, public AS $$
  WITH RECURSIVE same(id) AS (
    SELECT unnest(accounts)
    UNION
    SELECT other.contributor_id
      FROM same
      JOIN contributors_linkedcontributor one ON one.contributor_id = same.id
      JOIN contributors_contributorlink link ON link.id = one.link_id AND link.state = 'approved'
      JOIN contributors_linkedcontributor other ON other.link_id = link.id
     WHERE NOT EXISTS (SELECT FROM contributors_linkend e WHERE e.link_id = link.id AND e.state = 'approved')
  )
  SELECT id FROM same
$$;

-- The accounts of a person: those of the memberships, in any role, and all that are linked to them. A stand-in has
-- those of its person.
CREATE OR REPLACE FUNCTION contributors_accounts_of(person bigint) RETURNS SETOF bigint LANGUAGE sql STABLE
    SET search_path = pg_catalog, public AS $$
  SELECT contributors_same_owner(ARRAY(
    SELECT m.contributor_id FROM contributors_membership m
     WHERE m.user_id = (SELECT coalesce(u.stands_for_id, u.id) FROM people_user u WHERE u.id = person)))
$$;

GRANT EXECUTE ON FUNCTION contributors_same_owner(bigint[]), contributors_accounts_of(bigint) TO tributary_app;
