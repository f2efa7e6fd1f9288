"""Everything that the kernel needs beside what decides the score; uploaded with it."""
