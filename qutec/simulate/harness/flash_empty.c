// SPDX-License-Identifier: Apache-2.0
// What an image costs before the network comes in.
int main(void);
int main(void)
{
    return 0;
}
