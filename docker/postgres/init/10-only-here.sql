-- Run once, when the server's folder is made: roles have no business in databases that are not theirs, where
-- nobody took away what everybody may do by default.
revoke connect on database postgres, template1 from public;
