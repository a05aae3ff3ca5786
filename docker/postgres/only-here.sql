-- Run once, when the server's folder is made: the roles of the pipeline have no business in other databases,
-- where nobody took away what everybody may do by default.
revoke connect on database postgres, template1 from public;
